from optcore._linear import LOSSES as LOSSES
from optcore._linear import mean_loss as mean_loss
from optcore._linear import steps as steps
