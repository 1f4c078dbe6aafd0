"""Search over settings: a sweep of finetuning runs with Ray Tune, finished whatever is killed.

What a sweep has done stands in its ledger (see `ledger`), never in Ray's own snapshot. Ray Tune
places the trials and its schedulers decide which go on.
"""
