from trellis.benchmarks.mle.metrics import auroc


def grade(submission, answers):
    return auroc(submission, answers, target="no_show")
