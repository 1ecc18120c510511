"""Standard deviation of weights before a leaky ReLU (10 minutes)

A layer with I inputs, O outputs and independent weights of mean 0 and variance v multiplies the mean square of its
inputs by I v. Its outputs z are symmetric around 0. A leaky ReLU with slope a,

    f(z) = z where z > 0, else a z,

changes the mean square again. Return the standard deviation of the weights with which the mean square of f(z) equals
that of the layer's inputs. For a = 0 this is He's initialisation.

Check: python -m ch02_nn.exercises 4
"""


def weight_deviation(inputs: int, outputs: int, slope: float) -> float:
    """I inputs, O outputs, slope a of the leaky ReLU below 0 -> standard deviation of the weights"""
    raise NotImplementedError
