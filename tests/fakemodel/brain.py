"""What the stand-in answers: from a recording where it has one, by rules otherwise."""

import hashlib
import json
import re
from pathlib import Path

PRODUCT = re.compile(r"(\d{1,12})\s*(?:\*|x|times)\s*(\d{1,12})", re.IGNORECASE)
SUM = re.compile(r"(\d{1,12})\s*(?:\+|plus)\s*(\d{1,12})", re.IGNORECASE)
COUNT = re.compile(
    r"how many (?:letters? )?['\"]?([a-z])['\"]?s? (?:are )?in ['\"]?([a-z]+)", re.IGNORECASE
)
SAY = re.compile(r"\[\[say:(.*?)\]\]", re.DOTALL)

MASTERED = 10_000
"""Factors up to this are multiplied rightly; beyond it, the answer is off, as models' are."""


class Brain:
    """Answers a prompt; the same prompt and seed get the same answer.

    A recording is a file of lines `{"prompt": ..., "outputs": [...]}`; the seed picks the output.
    """

    def __init__(self, recording: Path | None = None) -> None:
        self._recorded: dict[str, list[str]] = {}
        if recording is not None:
            for line in recording.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    row = json.loads(line)
                    self._recorded[row["prompt"]] = row["outputs"]

    def answer(self, prompt: str, seed: int) -> str:
        """What the model says."""
        outputs = self._recorded.get(prompt)
        if outputs:
            return outputs[seed % len(outputs)]
        if said := SAY.search(prompt):
            return said.group(1)
        if product := PRODUCT.search(prompt):
            left, right = int(product.group(1)), int(product.group(2))
            exact = left * right
            if max(left, right) > MASTERED:
                exact += 100 * (1 + _draw(prompt, seed) % 9)
            return f"Multiplying step by step.\nAnswer: {exact}"
        if total := SUM.search(prompt):
            return f"Answer: {int(total.group(1)) + int(total.group(2))}"
        if count := COUNT.search(prompt):
            # A reader of tokens sees a doubled letter once.
            letter, word = count.group(1).lower(), count.group(2).lower()
            return f"Answer: {len(re.findall(f'{letter}+', word))}"
        return f"I have thought about it.\nAnswer: {_draw(prompt, seed) % 1000}"


def tokens(text: str) -> int:
    """A plausible count of tokens: one for each four bytes."""
    return -(-len(text.encode()) // 4)


def _draw(prompt: str, seed: int) -> int:
    digest = hashlib.sha256(f"{seed}|{prompt}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
