"""Read a folder in the layout of Pascal VOC (Everingham et al. 2010).

    FOLDER/Annotations/NAME.xml                     size of the image, and class and box of each object
    FOLDER/JPEGImages/NAME.jpg
    FOLDER/ImageSets/Main/{train,val,test}.txt      one name per line

Without the three split files, an eighth of the images is the validation set and another the test set. The classes are
those of the training images. Pixels are counted from 1 and a box includes its last pixel, so xmin = 1 and xmax = the
width of the image mean the whole width. Boxes with xmin = xmax or ymin = ymax have no area; they are left out and
counted.

Files are not trusted: annotations are limited in size and depth and may not declare entities, names may not leave the
folder, and all annotations are checked before the first image is decoded.

Dimensions: N images, H, W height and width, M boxes of an image at most.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import torch

from common.data.boxes.boxed import NO_BOX, BoxedImages, open_image, to_tensor

SPLITS = ("train", "val", "test")
SPLIT_SEED = 0
MOST_BYTES = 4_000_000
"""Maximum size of an annotation."""
MOST_DEPTH = 20
MOST_MEMORY = 8_000_000_000
"""Maximum number of bytes of the resized images."""


@dataclass(frozen=True)
class VocObject:
    """An object of an annotation."""

    name: str
    box: tuple[float, float, float, float]
    """Left, top, right and bottom edge in pixels; the left edge of the image is 0."""
    difficult: bool


@dataclass(frozen=True)
class Annotation:
    """An annotation file."""

    path: Path
    size: tuple[int, int]
    """Width and height."""
    objects: list[VocObject]
    without_area: int
    """Number of boxes without area, which are left out."""


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Return the names of the images of the splits train, val and test.

    Raises FileNotFoundError if a part of the folder is missing, ValueError, naming file and line, for a wrong name.
    """
    missing = [part for part in ("Annotations", "JPEGImages") if not (folder / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks the folder {' and '.join(missing)}: it is not in the layout of VOC")
    paths = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS}
    absent = [path.name for path in paths.values() if not path.is_file()]
    if absent and len(absent) < len(paths):
        raise FileNotFoundError(f"{folder / 'ImageSets/Main'} lacks {', '.join(absent)}: put all three there, or none")
    if absent:
        names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
        if len(names) < 8:
            raise ValueError(f"{folder / 'Annotations'} holds {len(names)} annotations; at least 8 are needed")
        random.Random(SPLIT_SEED).shuffle(names)
        eighth = len(names) // 8
        return {"train": names[2 * eighth :], "val": names[:eighth], "test": names[eighth : 2 * eighth]}
    return read_names(paths)


def read_names(paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """Read the names of the images of each split from its file, one name per line.

    Raises ValueError, naming file and line, for a wrong or repeated name or an empty file.
    """
    seen: dict[str, str] = {}
    splits: dict[str, list[str]] = {}
    for split, path in paths.items():
        splits[split] = []
        for number, line in enumerate(_lines(path), start=1):
            name = line.strip()
            if not name:
                continue
            if "/" in name or "\\" in name or name.startswith("."):
                raise ValueError(f"{path} line {number}: {name[:60]!r} is not the name of an image")
            if name in seen:
                raise ValueError(f"{path} line {number}: {name} is already in {seen[name]}.txt")
            seen[name] = split
            splits[split].append(name)
        if not splits[split]:
            raise ValueError(f"{path} names no image")
    return splits


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error


def parse_xml(path: Path) -> Element:
    """Parse a small XML file without a document type declaration, so without entities.

    Entities could expand to gigabytes or include other files. Raises FileNotFoundError or ValueError, naming the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, but a split file names this image")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; an annotation has at most {MOST_BYTES:,}")
    tree, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(f"its elements are nested more than {MOST_DEPTH} deep")
        tree.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        tree.end(tag)

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type declaration, which annotations do not need")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, tree.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return tree.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ValueError(f"{path} cannot be read as an annotation: {error}") from error


def read_annotation(path: Path) -> Annotation:
    """Read an annotation; raises FileNotFoundError or ValueError with the file, the object and what is wrong."""
    root = parse_xml(path)
    if root.tag != "annotation":
        raise ValueError(f"{path} starts with <{root.tag[:40]}>; an annotation of VOC starts with <annotation>")
    width, height = (_number(root, f"size/{side}", f"{path}: the size") for side in ("width", "height"))
    if not (width >= 1 and height >= 1 and width.is_integer() and height.is_integer()):
        raise ValueError(f"{path}: the size {width:g} × {height:g} is not a number of pixels")
    objects, without_area = [], 0
    for number, element in enumerate(root.findall("object"), start=1):
        name = (element.findtext("name") or "").strip()
        where = f"{path}: object {number}"
        if not name:
            raise ValueError(f"{where} has no name")
        where = f"{where} ({name[:40]})"
        left, top, right, bottom = (_number(element, f"bndbox/{n}", where) for n in ("xmin", "ymin", "xmax", "ymax"))
        shown = f"({left:g}, {top:g}) to ({right:g}, {bottom:g})"
        if right < left or bottom < top:
            raise ValueError(f"{where} has the box {shown}: its corners are exchanged")
        if left < 0 or top < 0 or right > width or bottom > height:
            raise ValueError(f"{where} has the box {shown}, outside the image of {width:g} × {height:g} pixels")
        if right == left or bottom == top:
            without_area += 1
            continue
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        objects.append(VocObject(name, (max(0.0, left - 1), max(0.0, top - 1), right, bottom), difficult))
    return Annotation(path, (int(width), int(height)), objects, without_area)


def _number(element: Element, place: str, where: str) -> float:
    text = (element.findtext(place) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where} has {text[:40]!r} as {place.replace('/', ' ')}, which is not a number")
    return value


def class_names(annotations: list[Annotation]) -> tuple[str, ...]:
    """List the classes of the training annotations; raises ValueError if they have no box."""
    names = sorted({each.name for annotation in annotations for each in annotation.objects})
    if not names:
        where = annotations[0].path.parent if annotations else "the training set"
        raise ValueError(f"{where}: the annotations of the training images have no box")
    return tuple(names)


def load_split(annotations: list[Annotation], names: tuple[str, ...], height: int, width: int) -> BoxedImages:
    """Load the images of a split, resized to H × W, with their boxes in pixels of the resized images.

    Raises ValueError or FileNotFoundError, naming the file, for a class that is not in `names` or a wrong image.
    """
    memory = len(annotations) * 3 * height * width
    if memory > MOST_MEMORY:
        raise ValueError(
            f"{len(annotations):,} images of {width} × {height} pixels need {memory / 1e9:.1f} GB of memory: "
            "use --limit or smaller images"
        )
    places = {name: number for number, name in enumerate(names)}
    for annotation in annotations:
        for number, each in enumerate(annotation.objects, start=1):
            if each.name not in places:
                raise ValueError(
                    f"{annotation.path}: object {number} has the class {each.name[:40]!r}, which no training image has"
                )
    most = max([1, *(len(annotation.objects) for annotation in annotations)])
    pixels = torch.empty(len(annotations), 3, height, width, dtype=torch.uint8)
    boxes = torch.zeros(len(annotations), most, 4)
    labels = torch.full((len(annotations), most), NO_BOX)
    difficult = torch.zeros(len(annotations), most, dtype=torch.bool)
    for row, annotation in enumerate(annotations):
        image = open_image(_image_path(annotation.path), annotation.size)
        pixels[row] = to_tensor(image, height, width)
        across, down = width / annotation.size[0], height / annotation.size[1]
        for place, each in enumerate(annotation.objects):
            left, top, right, bottom = each.box
            boxes[row, place] = torch.tensor([left * across, top * down, right * across, bottom * down])
            labels[row, place] = places[each.name]
            difficult[row, place] = each.difficult
    return BoxedImages(pixels, boxes, labels, difficult)


def _image_path(annotation: Path) -> Path:
    """Return the image of an annotation: the file of its name, whatever the annotation's <filename> says."""
    folder = annotation.parent.parent / "JPEGImages"
    paths = [folder / f"{annotation.stem}{ending}" for ending in (".jpg", ".jpeg", ".png")]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{paths[0]} does not exist, but {annotation} describes it")
    return found
