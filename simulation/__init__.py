"""Many hospitals on one machine, with the same ServerApp and ClientApp as a deployment."""
