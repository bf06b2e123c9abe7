"""The leaderboard: attackers x audits x repairs, which side wins where. A new attacker is a line in `attackers.ATTACKERS`."""
