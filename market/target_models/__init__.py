"""The models that labs want defeated: how each is asked, and its versions."""
