"""What every prediction needs: inputs, schemas, results, idempotency, deadlines."""
