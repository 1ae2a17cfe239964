"""From a user's turns to what is said: prompt, model, Bouche, and Cortex over them."""
