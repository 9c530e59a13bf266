"""What makes a cell's outputs good: no error, nothing on stderr, no failed check, pictures that open, all that is expected."""

import base64
import struct
import xml.etree.ElementTree as xml
import zlib

from notebook_files import code_cells, where

FAILED_CHECK = "✗"
RICH = ("image/svg+xml", "image/png", "text/html")


def rich_types(cell):
    """The kinds of figures and tables that a cell shows."""
    shown = {kind for output in cell.outputs for kind in output.get("data", {})}
    return [kind for kind in RICH if kind in shown]


def check_png(data):
    """Raises ValueError unless `data` is a whole PNG whose pixels unpack to the size that its header gives."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG signature")
    at, header, pixels, ended = 8, None, b"", False
    while at < len(data) and not ended:
        if at + 12 > len(data):
            raise ValueError("a chunk is cut off")
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body, checksum = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if len(checksum) < 4 or zlib.crc32(kind + body) != struct.unpack(">I", checksum)[0]:
            raise ValueError(f"chunk {kind.decode('latin1')} is damaged")
        match kind:
            case b"IHDR":
                header = struct.unpack(">IIBBBBB", body)
            case b"IDAT":
                pixels += body
            case b"IEND":
                ended = True
        at += 12 + length
    if not header or not ended:
        raise ValueError("its header or its end is missing")
    width, height, depth, colour, _, _, interlaced = header
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = 1 + (width * channels * depth + 7) // 8
    if not interlaced and len(zlib.decompress(pixels)) != height * row:
        raise ValueError("its pixels do not fill it")
    return width, height


def check_svg(text):
    """Raises ValueError unless `text` is well-formed SVG with something drawn in it."""
    try:
        root = xml.fromstring(text)
    except xml.ParseError as error:
        raise ValueError(f"it is not well-formed: {error}") from error
    if root.tag not in ("svg", "{http://www.w3.org/2000/svg}svg"):
        raise ValueError(f"its root is <{root.tag}>")
    if len(root) == 0:
        raise ValueError("nothing is drawn in it")


def text_of(data):
    return "".join(data) if isinstance(data, list) else data


def cell_problems(cell):
    """What is wrong with the outputs of one code cell, in words."""
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"ended in an error: {output.get('evalue', '')}\n" + "\n".join(output.get("traceback", []))
        if output.output_type == "stream" and output.name == "stderr":
            yield f"wrote to stderr: {text_of(output.text).strip()}"
        texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
        for line in "\n".join(map(text_of, texts)).splitlines():
            if FAILED_CHECK in line:
                yield f"a check failed: {line.strip()}"
        for kind, data in output.get("data", {}).items():
            try:
                if kind == "image/png":
                    check_png(base64.b64decode(text_of(data)))
                if kind == "image/svg+xml":
                    check_svg(text_of(data))
            except (ValueError, KeyError, struct.error, zlib.error) as error:
                yield f"its {kind} is damaged: {error}"
    for kind in cell.metadata.get("expects", []):
        if kind not in {kind for output in cell.outputs for kind in output.get("data", {})}:
            yield f"shows no {kind}, which its metadata expects"


def output_problems(notebook):
    """What is wrong with the outputs of a whole notebook, each with the cell it was found in."""
    return [f"{where(notebook, cell)} {problem}" for cell in code_cells(notebook) for problem in cell_problems(cell)]
