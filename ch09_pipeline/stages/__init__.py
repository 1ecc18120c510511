"""The stages: commands that read only the files after `--in` and write only to `--out`; read in this order.

prepare   convert batches of images to tensors
train     train a network on the prepared batches
evaluate  compute its metrics on the test batches
compare   rank the variants by validation accuracy
publish   publish the best model, unless it is below the threshold
predict   classify new images
"""
