"""What a deployment would change, object by object and field by field. `plan.plan` is the whole of it."""
