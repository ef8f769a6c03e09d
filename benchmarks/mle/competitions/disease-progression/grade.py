from trellis.benchmarks.mle.metrics import rmse


def grade(submission, answers):
    return rmse(submission, answers, target="progression")
