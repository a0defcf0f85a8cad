"""Read exports of CVAT: the format "CVAT for images 1.1", an XML file or the folder with it.

People are skeletons. A joint that is `outside` is not labelled, an `occluded` one is hidden.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from vipnas.data.imports.labels import Joint, LabelledImage, LabelledPerson, Labels
from vipnas.data.imports.table import Source
from vipnas.errors import UserError, shown
from vipnas.files import check_is_file

FILE = "annotations.xml"


def read(source: Source) -> Labels:
    file = source.path / FILE if source.path.is_dir() else source.path
    document = _document(file)
    joints = _joint_names(document)
    left_out: Counter[str] = Counter()
    images = []
    for element in document.iter("image"):
        name = element.get("name")
        place = f"{file}: image {element.get('id', 'without id')}"
        if not name:
            raise UserError(f"{place}: name", "a file name", shown(name))
        place = f"{place} ({name})"
        persons = [_person(child, place) for child in element.iter("skeleton")]
        left_out.update(
            f"{child.tag} labels" for child in element if child.tag not in ("skeleton", "tag")
        )
        height, width = (int(_number(element, key, place)) for key in ("height", "width"))
        images.append(LabelledImage(name, (height, width), tuple(persons)))
    if not images:
        hint = "export the task as 'CVAT for images 1.1'"
        raise UserError(str(file), "image elements", "none", hint)
    used = {person.category for image in images for person in image.persons}
    orders = {category: tuple(names) for category, names in joints.items() if category in used}
    folder = source.images or (
        file.parent / "images" if (file.parent / "images").is_dir() else None
    )
    return Labels(tuple(images), orders, folder, left_out)


def _document(file: Path) -> Element:
    check_is_file(file)
    try:
        document = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise UserError(str(file), "valid XML", "a syntax error", str(error)) from None
    except (LookupError, ValueError) as error:  # of an encoding that Python does not have
        raise UserError(str(file), "XML in UTF-8", "another encoding", str(error)) from None
    if document.tag != "annotations":
        raise UserError(str(file), "the element annotations", shown(document.tag))
    return document


def _joint_names(document: Element) -> dict[str, dict[str, None]]:
    """Return the joints of each skeleton, in the order of the task as far as the file has it."""
    joints: dict[str, dict[str, None]] = {}
    for label in document.iter("label"):
        name, parent = label.findtext("name"), label.findtext("parent")
        if name and parent:
            joints.setdefault(parent, {})[name] = None
    for skeleton in document.iter("skeleton"):  # those that are `outside` everywhere, too
        known = joints.setdefault(skeleton.get("label", ""), {})
        known.update(dict.fromkeys(points.get("label", "") for points in skeleton.iter("points")))
    return joints


def _person(skeleton: Element, place: str) -> LabelledPerson:
    label = skeleton.get("label")
    if not label:
        raise UserError(f"{place}: skeleton: label", "a name", shown(label))
    joints = dict(_joints(skeleton, f"{place}: skeleton {label}"))
    return LabelledPerson(label, joints)


def _joints(skeleton: Element, place: str) -> Iterator[tuple[str, Joint]]:
    seen = set()
    for points in skeleton.iter("points"):
        name = points.get("label")
        if not name or name in seen:
            raise UserError(f"{place}: points", "each joint once", shown(name))
        seen.add(name)
        if points.get("outside") == "1":
            continue
        text = points.get("points", "")
        x, comma, y = text.partition(",")
        try:
            x_px, y_px = float(x), float(y)
        except ValueError:
            x_px = y_px = math.nan
        if not comma or not math.isfinite(x_px) or not math.isfinite(y_px):
            raise UserError(f"{place}: {name}", "one point 'x,y'", shown(text))
        yield name, Joint(x_px, y_px, 1 if points.get("occluded") == "1" else 2)


def _number(element: Element, key: str, place: str) -> int:
    text = element.get(key, "")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{place}: {key}", "a number of pixels from 1", shown(text))
    return int(text)
