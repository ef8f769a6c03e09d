from trellis.benchmarks.mle.metrics import quadratic_weighted_kappa


def grade(submission, answers):
    return quadratic_weighted_kappa(submission, answers, target="grade", classes=range(1, 7))
