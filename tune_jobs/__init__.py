"""Search platform for selfcon, built on Ray, Optuna and MLflow. Importing it has no side effects."""
