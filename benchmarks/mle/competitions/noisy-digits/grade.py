from trellis.benchmarks.mle.metrics import accuracy, aligned, labels


def grade(submission, answers):
    labels(aligned(submission, answers, target="digit")[1], range(10), "digit")
    return accuracy(submission, answers, target="digit")
