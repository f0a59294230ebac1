"""From what a model knows to the expected money of a thousand impressions (docs/money.md).

`counts` reads from the log how often an ad was shown and what came of it, `held_out` lets the model judge impressions
that it has not learnt from, `fit` brings the two together, `scale` is the result: what a bundle holds and a replica asks.
"""
