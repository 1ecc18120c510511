"""Object detection: boxes and classes of all objects of an image; read in this order.

boxes              areas, intersection over union, offsets from anchors to boxes
anchors            anchors of several sizes at every position, and their matching with the true boxes
suppression        non-maximum suppression
network            backbone, feature pyramid, and the detector with one of the two heads
ssd                SSD's head: classes and offsets for each anchor, hard-negative mining
yolo               a one-stage head in YOLO's style: objectness, class and box for each cell
augment            random flips, zooms and colours that also transform the boxes
average_precision  matching of detections with true boxes, precision and recall, average precision
evaluation         detections of all images of a split, their measures and worst errors
detection          the program
visualise          detections, errors and precision-recall curves as pictures
"""
