"""What a person takes along: everything that is kept about it, and a signed word on its skills."""
