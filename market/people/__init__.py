"""Who may come in: people, the organisations they belong to, the parts they play, their keys."""
