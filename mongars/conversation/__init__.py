"""From a user's turns to a reply: prompt, model backends, Bouche, and Cortex over them."""
