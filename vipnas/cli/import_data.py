"""The command `import-data`: labels of other programs as COCO annotations."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.cli.arguments import Commands
from vipnas.data.imports.table import IMPORTERS

if TYPE_CHECKING:
    from vipnas.data.imports.labels import Labels


def add_import_command(commands: Commands) -> None:
    """Add `import-data`."""
    command = commands.add_parser(
        "import-data", help="convert labels of other programs to COCO annotations"
    )
    command.add_argument(
        "format",
        choices=tuple(IMPORTERS),  # shtab takes a mapping for subcommands
        metavar="FORMAT",
        help=f"one of {', '.join(IMPORTERS)}",
    )
    command.add_argument("source", type=Path, metavar="SOURCE", help="file or folder to read")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="JSON file to write"
    )
    command.add_argument(
        "--skeleton",
        metavar="NAME",
        help="skeleton that names the joints and their order (default: those of the source)",
    )
    command.add_argument(
        "--split", metavar="NAME", help="train, val or test of yolo-pose (default: train)"
    )
    command.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images, where the source does not tell; of sleap, the folder that"
        " frames of videos are written to",
    )
    command.set_defaults(run=_import)


def _described(labels: Labels, category: str) -> str:
    """Return a category with the number of its joints, and of those that nobody has."""
    unlabelled = labels.num_unlabelled(category)
    without = f", {unlabelled} of them without a label" if unlabelled else ""
    return f"{category} ({len(labels.joints[category])} joints{without})"


def _import(options: argparse.Namespace) -> None:
    from vipnas.data.formats.skeletons import read_skeleton
    from vipnas.data.imports.labels import coco_document
    from vipnas.data.imports.table import Source, read_labels
    from vipnas.files import write_atomically

    joints = read_skeleton(options.skeleton).joints if options.skeleton else None
    source = Source(options.source, joints, options.split, options.images)
    labels = read_labels(options.format, source)
    document = coco_document(labels)
    write_atomically(options.output, json.dumps(document, ensure_ascii=False) + "\n")
    categories = ", ".join(_described(labels, category) for category in labels.joints)
    print(f"import-data: {labels.num_persons} persons in {len(labels.images)} images: {categories}")
    for reason, count in (+labels.left_out).items():
        print(f"  left out: {count} {reason}")
    folder = labels.image_root or "DIR"
    print(f"  in an experiment: {{annotations: {options.output}, images: {folder}}}")
