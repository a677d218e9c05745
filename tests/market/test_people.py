"""Signing up, keys, and what a key may do."""

from litestar.testing import TestClient
from sqlalchemy.orm import Session


def sign_up_lab(web: TestClient, email: str = "ada@lab.example") -> dict[str, str]:
    answer = web.post(
        "/v1/signups",
        json={"part": "lab", "name": "Ada", "email": email, "organisation_name": "Lab One"},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_lab_signs_up_and_its_key_says_who_it_is(web: TestClient) -> None:
    joined = sign_up_lab(web)
    me = web.get("/v1/me", headers={"Authorization": f"Bearer {joined['api_key']}"})
    assert me.status_code == 200, me.text
    assert me.json()["organisation_name"] == "Lab One"
