"""From finished runs to champions: the policy, the rules, the registry and the model card."""
