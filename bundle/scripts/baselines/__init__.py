"""The methods that DSNet is compared with, as networks of train.yaml."""
