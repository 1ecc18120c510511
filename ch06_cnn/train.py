"""Command line of chapter 6.

python -m ch06_cnn.train                         # the core programs, in the book's order
python -m ch06_cnn.train cnn --augment           # one program
python -m ch06_cnn.train --benchmark             # time their training steps on every device
"""

from ch06_cnn.architectures import classics
from ch06_cnn.convolution import cnn, throughput
from ch06_cnn.detection import detection
from ch06_cnn.segmentation import cross_validation, segmentation
from ch06_cnn.spatial import spatial
from ch06_cnn.speedrun import speedrun
from ch06_cnn.style import fast_style, style, style_features
from ch06_cnn.transfer import transfer
from common.cli import main

if __name__ == "__main__":
    vision = [transfer, detection, segmentation, cross_validation, spatial, style, style_features, fast_style]
    main(cnn, speedrun, extra=[classics, *vision, throughput])
