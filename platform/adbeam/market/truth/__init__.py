"""Parts of the simulated market's truth that its settings may add: users, scenes, organic items, targeting; its AUC."""
