"""How experts leave, by their own will or not: work goes back, and all that was earned is paid."""
