"""A server that doesn't wait, by hand: who is back when, and from which weights they started."""

from plain_submodels import CLIENTS, HIDDEN, seconds


def play(num_rounds, buffer, step, begin, epochs=1):
    """Play the rounds; ``step(weights, batch, version)`` moves the server by a batch of (client, start, version).

    All clients are always at work with the full model: whoever is back starts again from the newest weights, once all
    that is back at the same moment is taken in. Returns the last weights, and who came in which round.
    """
    weights, version, came = begin, 0, []
    jobs = [
        (seconds(client, HIDDEN, epochs), client, client, weights, 0) for client in CLIENTS
    ]  # end, order of sending, ...
    num_sent = len(jobs)
    batch, idle, now = [], [], 0.0
    while version < num_rounds:
        jobs.sort(key=lambda job: job[:2])
        if idle and (not jobs or jobs[0][0] > now):
            for client in idle:
                jobs.append((now + seconds(client, HIDDEN, epochs), num_sent, client, weights, version))
                num_sent += 1
            idle = []
            continue
        now, _, client, start, sent_version = jobs.pop(0)
        idle.append(client)
        batch.append((client, start, sent_version))
        if len(batch) == buffer:
            weights = step(weights, batch, version)
            came.append([(client, version - sent) for client, _, sent in batch])
            version, batch = version + 1, []
    return weights, came
