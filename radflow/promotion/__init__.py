"""Champions made of finished runs: the policy, the rules, the registry and the model card."""
