"""The paper's experiments, and ours beyond them: each is trained, drawn beside the paper's figure, and judged."""
