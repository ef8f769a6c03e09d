from trellis.benchmarks.mle.metrics import f1_macro


def grade(submission, answers):
    return f1_macro(submission, answers, target="state")
