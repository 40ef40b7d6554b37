"""SpeedRatio in plain loops: what each client finishes in the time that the fastest takes, by example counts."""

from plain_submodels import CLIENTS, SIZES, aligned, assert_equal, count_of, largest, masks, run, seconds, start, train

from fedlight.algorithms import SpeedRatio


def test_equals_plain_loops():
    """Times carry no noise, so the cost model that fedlight learns is the true one from the second round on."""
    rounds, ratios = 6, [0.5] * len(SIZES)
    server, weights = run(SpeedRatio(min_ratio=0.2, round_to=1), rounds), start()
    for round_idx in range(rounds):
        if round_idx > 0:
            target_s = min(seconds(client, count_of(0.2)) for client in CLIENTS)
            ratios = [aligned(client, target_s, ratios[client]) for client in CLIENTS]
        assert [server.told[round_idx][client].ratio for client in CLIENTS] == ratios
        scores = weights["hidden.weight"].square().sum(1) + weights["hidden.bias"].square()
        keeps = [largest(scores + weights["out.weight"][0].square(), count_of(ratio)) for ratio in ratios]
        updates = [train(weights, keeps[client], client)[0] for client in CLIENTS]
        for name in weights:
            total = sum(SIZES[n] * updates[n][name] for n in CLIENTS)
            held = sum(SIZES[n] * masks(keeps[n])[name] for n in CLIENTS)
            weights[name] = weights[name] + total / held.clamp(min=1)
    assert_equal(server, weights)
    assert len(set(ratios)) > 2
