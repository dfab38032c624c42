"""The verdict engine on recorded traffic: capture, link layer, table model, engine, findings."""
