"""The proofs that somebody is at work: heartbeats, and the question whether anyone is there."""
