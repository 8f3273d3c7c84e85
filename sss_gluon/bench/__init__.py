"""Speed and memory, measured in turn: what the factors cost, and what a compact network gains."""
