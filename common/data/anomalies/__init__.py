"""Detection of a class that is held out of training; read in this order.

held_out   training images without a class, and which images are anomalies
baselines  anomaly scores by PCA, by isolation forests, and by the amount of ink
"""
