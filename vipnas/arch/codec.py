"""The names of the codecs, from heatmaps or bins to coordinates (`vipnas.data.codecs`)."""

from __future__ import annotations

from typing import Literal

CodecName = Literal["quarter", "dark", "udp", "simcc"]
