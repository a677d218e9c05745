"""A stand-in for a lab's target model: the API that such models speak, on loopback.

It answers by rules or from a recording, always the same to the same prompt and seed, and it can be
told to fail: by a marker in the prompt, such as `[[500]]` or `[[slow:3]]`, or over its control
address. What it was asked stays readable, so that a test can count its requests.
"""

from tests.fakemodel.server import FakeModel

__all__ = ["FakeModel"]
