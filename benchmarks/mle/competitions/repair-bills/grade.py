from trellis.benchmarks.mle.metrics import rmsle


def grade(submission, answers):
    return rmsle(submission, answers, target="bill")
