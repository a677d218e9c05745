"""Quality: what was learned of experts, tasks, reviewers and target models, and how well."""
