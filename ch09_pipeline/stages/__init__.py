"""The stages: each a plain command that reads what `--in` names and writes below `--out`, and nothing else.

prepare   batches of images to tensors
train     a network on the prepared batches
evaluate  its measures on the test batches
compare   the variants; the best one on the validation split
publish   the chosen model, where it passes the threshold
predict   classes of new pictures
"""
