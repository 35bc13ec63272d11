"""A study's figures for tools that draw them: TensorBoard and MLflow. Written once each, however often it is asked."""
