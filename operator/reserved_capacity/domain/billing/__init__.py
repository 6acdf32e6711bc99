"""Money, pure: what a contract costs on which day, what stands in the books for it, and what the customer is sent.

`contracts` what was agreed, `ledger` what stands in the books, `intervals` who had how many CU from when to when.
Everything else here computes one of these from another. Amounts are integers in minor units of the currency.
"""
