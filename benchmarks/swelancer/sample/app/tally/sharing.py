"""Who owes whom: sharing one amount, and settling up."""

from tally.http import json_response
from tally.money import divide, format_amount, settle, share_out
from tally.validation import Form


class Sharing:
    def routes(self, router):
        router.add("POST", "/api/share", self.share)
        router.add("POST", "/api/settle", self.settle)

    def share(self, request):
        form = Form(request.json())
        cents = form.amount("amount", positive=True)
        names, weights = [], []
        for row in form.rows("people"):
            names.append(row.text("name", shortest=1, longest=40))
            weights.append(row.number("weight", least=1, most=1000, default=1))
            form.errors.update(row.errors)
        form.check()
        shares = share_out(cents, weights)
        return json_response(
            {"shares": [{"name": n, "amount": format_amount(share)} for n, share in zip(names, shares)]}
        )

    def settle(self, request):
        """Everybody paid something for all: who gives whom how much, so that all paid the same, to the cent."""
        form = Form(request.json())
        paid = {}
        for row in form.rows("paid"):
            name, cents = row.text("name", shortest=1, longest=40), row.amount("amount")
            form.errors.update(row.errors)
            if name and cents is not None:
                paid[name] = paid.get(name, 0) + cents
        form.check()
        shares = share_out(sum(paid.values()), [1] * len(paid))
        balances = {name: cents - share for (name, cents), share in zip(paid.items(), shares)}
        transfers = [{"from": a, "to": b, "amount": format_amount(cents)} for a, b, cents in settle(balances)]
        return json_response({"each": format_amount(divide(sum(paid.values()), len(paid))), "transfers": transfers})
