"""Draw docs/flow.png: what a flow network sees of six made-up micro-expressions. python tools/picture.py"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import mer_zoo

EMOTIONS = ("happiness", "surprise", "anger", "disgust", "repression", "sadness")
CHANNELS = ("u, to the right", "v, downwards", "strain")
TILE, LEFT, TOP = 128, 120, 46


def main() -> None:
    corpus = mer_zoo.open_corpus("synthetic_flow", subjects=16, seed=3)
    chosen = [next(s for s in corpus.samples if s.emotion == emotion) for emotion in EMOTIONS]
    sheet = Image.new("L", (LEFT + len(chosen) * (TILE + 4), TOP + len(CHANNELS) * (TILE + 4)), 255)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, channel in enumerate(CHANNELS):
        draw.text((4, TOP + row * (TILE + 4) + TILE // 2 - 8), channel, fill=0, font=font)
    for column, sample in enumerate(chosen):
        x = LEFT + column * (TILE + 4)
        draw.text((x + 2, 4), f"{sample.emotion}\nAU {'+'.join(map(str, sample.aus))}", fill=0, font=font)
        for row, plane in enumerate(np.moveaxis(corpus.flow_image(sample), -1, 0)):
            tile = Image.fromarray(plane).resize((TILE, TILE), Image.Resampling.BICUBIC)
            sheet.paste(tile, (x, TOP + row * (TILE + 4)))
    sheet.save(Path(__file__).parent.parent / "docs" / "flow.png", optimize=True)


if __name__ == "__main__":
    main()
