"""Flows of the client without a server: what answers their requests, and lets their pauses pass at once."""

from openlaunch.client.effects import Pause, Request


class VirtualTime:
    """Runs flows. A subclass says what `answer` gives for a request; what is an exception is raised."""

    def __init__(self):
        self.now = 0.0
        self.requests = []

    def run(self, flow):
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Pause):
                    self.now += effect.seconds
                    effect = flow.send(None)
                    continue
                assert isinstance(effect, Request)
                self.requests.append(effect)
                answer = self.answer(effect)
                effect = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
        except StopIteration as stop:
            return stop.value
