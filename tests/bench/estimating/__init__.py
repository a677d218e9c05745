"""What `estimate` judges: the public sets, and how each kind of row is held out and scored."""
