"""Ads of a bundle without an endpoint: python examples/recommend.py BUNDLE ITEM ITEM ...

BUNDLE is a bundle or a folder of them (runs/examples/bundles); the items are what a visitor bought, oldest first.
"""

import sys

import adbeam


def main(bundle: str, bought: list[str]) -> None:
    """One visitor with a history, one who is new, and a hundred at once."""
    recommender = adbeam.Recommender.load(bundle)
    print(f"bundle {recommender.version}, scenes {', '.join(recommender.scenes)}")
    for title, history in (("with this history", bought), ("somebody new", [])):
        print(title)
        for ad in recommender.recommend(history, count=5, filters={"exclude_seen": True}):
            print(f"  {ad['item_id']:8} {ad['title']:20} score {ad['score']:.4f}  sid {list(ad['sid'])}")
    many = recommender.recommend_many([{"count": 3}] * 100)
    print(f"{len(many)} answers of {len(many[0])} ads")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
