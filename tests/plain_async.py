"""A server that doesn't wait, by hand: who is back when, and what they started from."""

from plain_submodels import CLIENTS


def play(num_rounds, buffer, weights, send, step):
    """Play so many moves of the server; return the last weights, and who came in which move, how many versions old.

    All clients are always at work: whoever is back is sent off again, once all that is back at the same moment is taken
    in. ``send(client, weights, version)`` returns how long it takes and what it starts from, ``step(weights, batch,
    version)`` the weights after a batch of (client, what it started from, version it started from).
    """
    jobs, batch, came, idle, now, num_sent, version = [], [], [], list(CLIENTS), 0.0, 0, 0
    while version < num_rounds:
        jobs.sort(key=lambda job: job[:2])
        if idle and (not jobs or jobs[0][0] > now):
            for client in idle:
                seconds, what = send(client, weights, version)
                jobs.append((now + seconds, num_sent, client, what, version))
                num_sent += 1
            idle = []
            continue
        now, _, client, what, sent_in = jobs.pop(0)
        idle.append(client)
        batch.append((client, what, sent_in))
        if len(batch) == buffer:
            weights = step(weights, batch, version)
            came.append([(client, version - sent_in) for client, _, sent_in in batch])
            version, batch = version + 1, []
    return weights, came
