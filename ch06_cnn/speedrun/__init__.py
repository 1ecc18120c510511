"""The CIFAR-10 speed run; read in this order.

speedrun   the program: the highest accuracy within a time budget
muon       the Muon optimizer: orthogonalised momentum
whitening  first-layer filters that whiten image patches
"""
