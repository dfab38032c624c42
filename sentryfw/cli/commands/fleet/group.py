"""The group `fleet`, to which the modules of this folder add their commands."""

from sentryfw.cli.arguments import new_app, new_group

app = new_app()
group = new_group("Share blocks with other firewalls.")
app.add_typer(group, name="fleet")
