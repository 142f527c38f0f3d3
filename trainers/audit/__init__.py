"""The audit's engine: gradients of strategies on the same completions of one policy, as inner products. `lab/audit/` reads them."""
